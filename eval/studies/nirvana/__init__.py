"""What NIRVANA's parts are worth."""
