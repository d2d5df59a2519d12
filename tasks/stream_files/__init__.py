"""Market files as stream files in Betfair's own historic format: what backtesters and simulators load."""
