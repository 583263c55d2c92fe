"""A view of the page as its templates write it, a room for each part."""

from fiml.web.present.form import FilterForm, present_filters
from fiml.web.present.page import Page, present

__all__ = ["FilterForm", "Page", "present", "present_filters"]
