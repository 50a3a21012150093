"""Load on a server with our page or /v1: many visitors at once, and what each of them gets.

plan -> crowd of visitors (page, v1) -> attempts -> results -> table, JSON, plots
"""
