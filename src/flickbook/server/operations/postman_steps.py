"""The requests of the Postman collection in the order in which they run: what each sends, and what later ones need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

#: The variables of the collection. A user sets the first three; the requests set the others.
VARIABLES: Final = {"base_url": "http://127.0.0.1:8000", "api_key": "anything", "webhook_url": "", "model": "builtin"}
_PROMPT: Final = "a red circle moving left on a blue background"
_FILM: Final[dict[str, Any]] = {
    "prompt": _PROMPT,
    "model": "{{model}}",
    "num_frames": 4,
    "num_inference_steps": 2,
    "seed": 7,
}
#: Films that keep one or two workers busy while requests change the queue. Of different lengths, so that none are
#: made in one batch.
_SLOW: Final[dict[str, Any]] = {"prompt": _PROMPT, "model": "{{model}}", "num_inference_steps": 100}
_SLOW_ROWS: Final = [{"num_frames": frames} for frames in (64, 60, 56, 52)]
_SLOW_IDS: Final = ("slow_1", "slow_2", "slow_3", "slow_4")
#: A GIF of one pixel, which is a file that text can hold: none of its bytes is above 127.
_GIF: Final = bytes.fromhex("47494638396101000100000000 2c0000000001000100000202440100 3b").decode("ascii")
_BOUNDARY: Final = "flickbook"
_FORM: Final = (
    f'--{_BOUNDARY}\r\ncontent-disposition: form-data; name="file"; filename="pixel.gif"\r\n'
    f"content-type: image/gif\r\n\r\n{_GIF}\r\n--{_BOUNDARY}--\r\n"
)
#: A lossless WebP of 16x13 equal pixels, which is a clip that text can hold.
_WEBP: Final = bytes.fromhex("5249464618000000574542505650384c 0b0000002f0f0003006841052203 0000").decode("ascii")
_TUNE: Final = '{"name": "pixels", "model": "{{model}}", "iterations": 1, "batch": 1, "num_frames": 1, "validation": 0}'
_DATASET: Final = (
    f'--{_BOUNDARY}\r\ncontent-disposition: form-data; name="request"\r\n\r\n{_TUNE}\r\n'
    f'--{_BOUNDARY}\r\ncontent-disposition: form-data; name="files"; filename="pixels.webp"\r\n'
    f"content-type: image/webp\r\n\r\n{_WEBP}\r\n"
    f'--{_BOUNDARY}\r\ncontent-disposition: form-data; name="files"; filename="pixels.txt"\r\n\r\n{_PROMPT}\r\n'
    f"--{_BOUNDARY}--\r\n"
)
_TYPE: Final = f"multipart/form-data; boundary={_BOUNDARY}"


@dataclass(frozen=True)
class Step:
    """One request: an operation of the service by its id.

    `body` is its JSON; `raw` is another body with its content type. `sets`
    are variables and where the response has their values, as data[0].id. `ids` are path parameters and variables,
    where they differ from the usual ones. `until` is the field that is polled until it says "completed". `url` is
    another address. `needs` is a variable without which the request is skipped.
    """

    operation: str
    about: str = ""
    body: Any = None
    raw: tuple[str, str] | None = None
    sets: Mapping[str, str] = field(default_factory=dict)
    ids: Mapping[str, str] = field(default_factory=dict)
    until: str = ""
    url: str = ""
    needs: str = ""


def _each(operation: str, names: tuple[str, ...]) -> list[Step]:
    return [Step(operation, f"({name.replace('_', ' ')})", ids={"id": name}) for name in names]


def _webhooks(prefix: str, name: str) -> list[Step]:
    """The life of a webhook. It ends before there are jobs, so that nothing is sent."""
    options: dict[str, Any] = {"needs": "webhook_url", "ids": {"id": name}}
    body = {"url": "{{webhook_url}}", "name": "postman", "event_types": ["video.completed"]}
    return [
        Step(f"{prefix}create_webhook", body=body, sets={name: "id"}, needs="webhook_url"),
        Step(f"{prefix}list_webhooks", needs="webhook_url"),
        Step(f"{prefix}show_webhook", **options),
        *([] if prefix else [Step("webhook_deliveries", **options)]),
        Step(f"{prefix}delete_webhook", **options),
    ]


_VIDEO: Final = {"video": {"id": "{{video_id}}"}}
FOLDERS: Final[dict[str, list[Step]]] = {
    "operations": [Step("healthz"), Step("readyz"), Step("metrics")],
    "models": [
        Step("list_models"),
        Step("show_model"),
        Step("show_machine"),
        Step("estimate", body=_FILM),
        Step("list_loras"),
        Step("pull_model"),
        Step("show_pull"),
        Step("compatible_list_models"),
        Step("compatible_retrieve_model"),
    ],
    "webhooks": _webhooks("", "webhook_id"),
    "webhook endpoints": _webhooks("compatible_", "endpoint_id"),
    "jobs": [
        Step("create_job", body=_FILM, sets={"job_id": "id"}),
        Step("list_jobs"),
        Step("show_queue"),
        Step("show_job"),
        Step("show_job", "until it is completed", until="state"),
        Step("job_run"),
        Step("job_log"),
        Step("favour_job", body={"favourite": True}),
        Step("job_again", body={"seed": 8}, sets={"again_id": "id"}),
    ],
    "drafts": [
        Step("create_drafts", body=_FILM | {"seeds": 2, "until": 0.5}, sets={"draft_id": "data[0].id"}),
        Step("show_job", "until the draft is completed", ids={"id": "draft_id"}, until="state"),
        Step("finish_drafts", body={"ids": ["{{draft_id}}"]}),
    ],
    "files": [
        Step("job_film"),
        Step("job_preview", "(of the draft)", ids={"id": "draft_id"}),
        Step("job_thumbnail"),
        Step("job_sheet"),
        Step("job_last"),
        Step("job_recipe"),
        Step("make_link", body={"file": "film", "seconds": 3600}, sets={"link": "url"}),
        Step("linked_file", url="{{base_url}}{{link}}"),
    ],
    "recipes": [Step("inspect_recipe", raw=(_TYPE, _FORM))],
    "events": [Step("job_events")],
    "sequences": [
        Step(
            "create_sequence",
            body={
                "prompts": [_PROMPT, "a yellow square on a green background"],
                "model": "{{model}}",
                "frames_per": 2,
                "num_inference_steps": 2,
                "seed": 7,
            },
        )
    ],
    "shots": [
        Step(
            "create_shots",
            body={
                "defaults": {"model": "{{model}}", "num_frames": 2, "num_inference_steps": 2, "seed": 7},
                "shots": [{"prompt": _PROMPT}, {"prompt": "a yellow square on a green background"}],
            },
        )
    ],
    "tunes": [
        Step("check_tune", raw=(_TYPE, _DATASET)),
        Step("create_tune", raw=(_TYPE, _DATASET), sets={"tune_id": "id"}),
        Step("show_job", "until the training is completed", ids={"id": "tune_id"}, until="state"),
        Step("job_lora", ids={"id": "tune_id"}),
        Step("job_comparison", ids={"id": "tune_id"}),
    ],
    "batches": [
        Step("create_batch", body={"rows": [{"seed": 7}, {"prompt": "a green star"}], "defaults": _FILM}),
    ],
    "videos": [
        Step("create_video", body=_FILM, sets={"video_id": "id"}),
        Step("list_videos"),
        Step("retrieve_video"),
        Step("retrieve_video", "until it is completed", until="status"),
        Step("download_video"),
        Step("remix_video", body={"prompt": "a blue circle moving left"}),
        Step("edit_video", body=_FILM | _VIDEO | {"prompt": "a green circle moving left"}),
        Step("extend_video", body=_FILM | _VIDEO),
        Step("create_video_and_wait", body=_FILM),
        Step("create_video", "(slow)", body=_SLOW | {"num_frames": 64}, sets={"slow_video_id": "id"}),
        Step("cancel_video", ids={"video_id": "slow_video_id"}),
        Step("delete_video"),
    ],
    "images": [Step("create_image", body={"prompt": "a red circle", "model": "{{model}}", "num_inference_steps": 2})],
    "queue": [
        Step(
            "create_batch",
            "(slow)",
            body={"rows": _SLOW_ROWS, "defaults": _SLOW},
            sets={name: f"data[{number}].id" for number, name in enumerate(_SLOW_IDS)},
        ),
        Step("reorder_job", body={"before": "{{slow_3}}"}, ids={"id": "slow_4"}),
        Step("prioritise_job", body={"priority": -1}, ids={"id": "slow_4"}),
        Step("pause_job", ids={"id": "slow_4"}),
        Step("resume_job", ids={"id": "slow_4"}),
        Step("cancel_job", ids={"id": "slow_4"}),
        Step("retry_job", ids={"id": "slow_4"}),
        *_each("delete_job", (*_SLOW_IDS, "again_id", "job_id")),
    ],
}
#: Operations that the collection leaves out: the stream of all events does not end, so a run would not; and training a
#: whole network takes too long.
LEFT_OUT: Final = ("events", "job_network")
