"""The demonstration: the whole story on real airports, told by what the databases and the wire say.

``airports`` has the records, ``stage`` the hub and the devices, ``acts`` the story, ``report`` what came of
it. Needs the extra ``demo``.
"""
