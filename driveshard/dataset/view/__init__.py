"""A page on this machine on which a dataset is looked at: its samples, by ranges, and the small server that shows them.

``view`` opens it, ``server`` speaks HTTP, ``site`` knows the addresses, ``samples`` the dataset, ``bodies`` reads and
keeps bytes, ``keys`` filters, ``fields`` makes of a field what a browser shows, ``page.html`` is what it sees first.
"""
