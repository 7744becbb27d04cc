"""Looking at a run: live progress, the report page, the picture of a learning curve."""

from sojourn.viewer.progress import Phase, Progress
from sojourn.viewer.report import write_report
from sojourn.viewer.svg import curve_svg

__all__ = ["Phase", "Progress", "curve_svg", "write_report"]
