"""Who is who: what a hub knows a device by, and what a device trusts."""
