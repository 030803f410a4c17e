"""The directory of shared datasets in the terms of the national guide (政务信息资源目录编制指南). Pure.

Everything is derived from the catalogue, so that the directory cannot say what the bus does not do.
"""

from __future__ import annotations

from civicbus.schemas.codec.tree import Json
from civicbus.schemas.compatibility import type_text
from civicbus.schemas.datasets import Dataset, Department, Openness, Sharing, UpdateCycle

SHARING = {
    Sharing.UNCONDITIONAL: "无条件共享",
    Sharing.CONDITIONAL: "有条件共享",
    Sharing.REFUSED: "不予共享",
}
OPENNESS = {
    Openness.OPEN: "无条件开放",
    Openness.CONDITIONAL: "有条件开放",
    Openness.CLOSED: "不予开放",
}
CYCLE = {
    UpdateCycle.REALTIME: "实时",
    UpdateCycle.DAILY: "每日",
    UpdateCycle.WEEKLY: "每周",
    UpdateCycle.MONTHLY: "每月",
    UpdateCycle.QUARTERLY: "每季度",
    UpdateCycle.YEARLY: "每年",
    UpdateCycle.IRREGULAR: "不定期",
}


def directory_entry(department: Department, dataset: Dataset) -> dict[str, Json]:
    """The core metadata of one 信息资源, by their Chinese names."""
    listing = dataset.listing
    return {
        "信息资源名称": dataset.title.zh,
        "信息资源代码": str(dataset.id),
        "提供方": department.title.zh,
        "提供方代码": department.code,
        "摘要": listing.abstract.zh,
        "格式": "Apache Avro",
        "信息项": _items(dataset),
        "共享类型": SHARING[dataset.sharing],
        "共享条件": None if listing.condition is None else listing.condition.zh,
        "共享方式": "共享平台方式" if dataset.sharing is not Sharing.REFUSED else None,
        "开放属性": OPENNESS[listing.openness],
        "更新周期": CYCLE[dataset.update_cycle],
        "发布日期": None if listing.published is None else listing.published.isoformat(),
        "关联资源代码": [str(other) for other in listing.related],
    }


def _items(dataset: Dataset) -> list[Json]:
    types = {field.name: field.type for field in dataset.schema.record.fields}
    return [
        {"信息项名称": field.title.zh, "信息项代码": field.name, "数据类型": type_text(types[field.name])}
        for field in dataset.fields
    ]
