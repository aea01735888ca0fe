"""Charts of stored rows: `chart` gathers what is drawn, `page` draws HTML, `picture` PNG and SVG."""
