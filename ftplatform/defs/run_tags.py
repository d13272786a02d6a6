"""Tags a run may carry, read by steps and set by the command line, the schedule and the sensors."""

#: "true": build again even where nothing changed.
REBUILD_TAG = "ftplatform/rebuild"
#: How checks are judged; see `checks.Mode`.
MODE_TAG = "ftplatform/mode"
#: Which sensor asked for the run.
TRIGGER_TAG = "ftplatform/trigger"
