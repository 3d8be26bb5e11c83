from pkg import api
from pkg.deep.leaf import leaf

import flat

print(api.name(), leaf(), flat.VALUE, api.__package__)
