"""Synthetic data sets: chest phantoms in each layout, for trying the programs without patient data.

The phantoms have no medical value.
"""

from trainer.data.synthetic.write import has_drawn as has_drawn
from trainer.data.synthetic.write import has_mark as has_mark
from trainer.data.synthetic.write import phantoms as phantoms
from trainer.data.synthetic.write import write_phantoms as write_phantoms
