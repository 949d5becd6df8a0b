"""The list of tools."""

from __future__ import annotations

from typing import Final

from flickbook.agents import arguments, looking, making
from flickbook.agents.results import Films, Models
from flickbook.agents.tool import Tool

#: Tool by name, in the order in which an agent reads them.
TOOLS: Final[dict[str, Tool]] = {
    tool.name: tool
    for tool in (
        Tool(looking.list_models, arguments.ListModels, Models),
        Tool(making.make_film, arguments.MakeFilm, Films, "create", makes=True),
        Tool(making.make_shots, arguments.MakeShots, Films, "create", makes=True),
        Tool(making.draft_films, arguments.DraftFilms, Films, "create", makes=True),
        Tool(looking.wait_for_films, arguments.WaitForFilms, Films),
        Tool(looking.look, arguments.Look, Films),
        Tool(looking.choose, arguments.Choose, Films, "create", repeatable=True),
        Tool(making.finish_drafts, arguments.FinishDrafts, Films, "create", makes=True),
        Tool(making.remake_film, arguments.RemakeFilm, Films, "create", makes=True),
        Tool(making.edit_film, arguments.EditFilm, Films, "create", makes=True),
        Tool(making.extend_film, arguments.ExtendFilm, Films, "create", makes=True),
        Tool(looking.search_films, arguments.SearchFilms, Films),
        Tool(looking.show_jobs, arguments.ShowJobs, Films),
        Tool(looking.cancel_jobs, arguments.ShowJobs, Films, "create", repeatable=True),
    )
}
