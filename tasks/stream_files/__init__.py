"""Write markets as stream files in Betfair's own historic format, which backtesters and simulators load."""
