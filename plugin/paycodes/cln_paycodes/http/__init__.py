"""What payers reach over HTTP: LNURL, lightning addresses, a page for people.

`settings` and `doors` are light; everything else, and the packages behind it, is imported only when it is switched on.
"""
