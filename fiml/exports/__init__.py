"""What leaves as a file: rows as CSV, a workbook, a report.

`reading` asks, in one snapshot; `rows`, `workbook` and `document` write what they are given. The
last two need the packages of the extra `export`, each when it is used.
"""
