"""The code location: the project file named by FTPLATFORM_PROJECT, or ./ftplatform.yaml."""

from ftplatform.defs.build import build_defs
from ftplatform.project.loading import load_project, project_path

defs = build_defs(load_project(project_path()))
