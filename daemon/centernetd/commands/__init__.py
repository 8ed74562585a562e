"""The work behind the commands other than ``run``; nothing here prints."""
