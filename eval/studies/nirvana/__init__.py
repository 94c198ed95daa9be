"""Studies of NIRVANA: how much each of its parts is worth."""
