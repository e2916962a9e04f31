"""Figures of a published dataset: what it holds, and what its images and labels are like."""
