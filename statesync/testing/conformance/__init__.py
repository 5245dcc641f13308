"""Test classes to subclass for a remote or a server of one's own: does it speak as a hub has to?"""
