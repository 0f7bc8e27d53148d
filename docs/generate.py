"""MkDocs' hook: the pages made from the code, the experiments' READMEs and the notebooks."""

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pages import experiments, keys, names, notebooks, tables


def generated() -> dict[str, str]:
    """Every generated page in Markdown, by its path in the site."""
    of_rooms = {f"reference/{room}.md": page for room, page in names.pages().items()}
    return {
        "reference/keys.md": keys.page(),
        "reference/tables.md": tables.page(),
        **of_rooms,
        **experiments.pages(),
        **notebooks.pages(),
    }


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the pages of the experiments and of the public names to the navigation."""
    of_experiments = [{name: f"experiments/{name}/README.md"} for name in experiments.names()]
    of_rooms = [f"reference/{room}.md" for room in names.rooms()]
    for section in config.nav or []:
        section.get("Experiments", []).extend(of_experiments)
        section.get("Reference", []).extend(of_rooms)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, and the files that they link to."""
    for path, page in generated().items():
        files.append(File.generated(config, path, content=page))
    for path in experiments.assets():
        place = path.relative_to(experiments.REPO).as_posix()
        files.append(File.generated(config, place, abs_src_path=str(path)))
    for place, image in notebooks.images().items():
        files.append(File.generated(config, place, content=image))
    return files


def on_page_markdown(markdown: str, page: Page, **kwargs: object) -> str:
    """Put the table of the experiments' durations in its place."""
    is_it = page.file.src_uri == experiments.REPRODUCE
    return experiments.with_durations(markdown) if is_it else markdown
