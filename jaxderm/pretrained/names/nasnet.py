"""Names of NASNet in other libraries.

timm's nasnetalarge is not here: at the borders it computes something else. It
leaves padding out of the reductions' pools, where Keras has zeros that count.
"""

from jaxderm.pretrained.table import Table

TABLES = (Table('keras', {}, 'tf', None, style='keras', identical=True),)
