"""x"""
from dataclasses import dataclass
@dataclass
class Discrepancy: pass
DISCREPANCIES=()
