from .init import init_
from .snapshot import Snapshot
