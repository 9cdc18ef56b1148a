"""Names of EfficientNet in other libraries."""

from jaxderm.pretrained.table import Table

TABLES = (Table('keras', {}, 'none', 'keras', style='keras', identical=True),)
