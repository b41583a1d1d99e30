from churn_utils.reports.figures import pipeline, style


def test_loop_fills_the_steps_that_are_done():
    figure = pipeline.plot_loop(["01", "04a"])
    colours = {
        note.text[3:].split(" ")[0]: note.bgcolor
        for note in figure.layout.annotations
        if note.bgcolor
    }
    assert list(colours) == [number for number, *_ in pipeline.LOOP]
    assert {number for number, colour in colours.items() if colour == style.BLUE} == {"01", "04a"}
