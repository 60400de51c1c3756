# SPDX-License-Identifier: BSD-3-Clause
"""Lava Processes and their models, one file each.

Lava's compiler executes every file of this folder by its bare name while it looks for
process models: keep nothing here but Processes, and import nothing relatively.
"""
