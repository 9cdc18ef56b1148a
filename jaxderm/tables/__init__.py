"""The papers' tables: what is printed, and what we get.

  python -m jaxderm.tables yang2021 --table=4 --manual_dir=PH2

`plans` says what each table compares, `printed` what its paper prints, `runs`
trains and evaluates what is missing, `render` writes the page and the CSV.
"""
