"""The consolidated CSV: a day, or all days, sorted and de-duplicated."""
