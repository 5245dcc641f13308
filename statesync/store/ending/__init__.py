"""How sessions are ended that do not end by themselves: their program is gone, or their thread is late."""
