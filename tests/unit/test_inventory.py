"""What lies in an output directory, and what of it is the export's."""

from tasks.export_directory import inventory, market_states
from tasks.storage.layout import Layout


def test_states_of_a_market_without_a_file_are_no_stray_and_other_files_of_that_name_are(tmp_path):
    layout = Layout(tmp_path)
    layout.states_dir.mkdir()
    content = market_states.render("1.5", [market_states.State(1, None, 1, "OPEN", False)])
    layout.states_file("1.5").write_bytes(content)
    layout.states_file("1.6").write_bytes(content)
    layout.states_file("1.7").write_bytes(b"PAR1")
    found = inventory.take_inventory(layout, [])
    assert found.without_file == ["states/marketId=1.5.parquet"]
    assert found.strays == ["states/marketId=1.6.parquet", "states/marketId=1.7.parquet"]
