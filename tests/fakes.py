"""Scripted stand-ins for every protocol: they answer at once and remember what they were asked."""
