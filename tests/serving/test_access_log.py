import asyncio

from churn_utils.serving.access_log import AccessLog


def test_a_failed_write_loses_its_lines_and_the_log_goes_on(capfdbinary, monkeypatch, caplog):
    class Full:
        def write(self, data):
            raise OSError("No space left on device")

    access_log = AccessLog()

    async def play():
        writing = asyncio.create_task(access_log.keep_writing(0.01))
        with monkeypatch.context() as patch:
            patch.setattr("sys.stdout", type("Stream", (), {"buffer": Full()}))
            access_log.append({"lost": 1})
            await asyncio.sleep(0.1)
        access_log.append({"kept": 2})
        await asyncio.sleep(0.1)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)

    asyncio.run(play())
    assert capfdbinary.readouterr().out == b'{"kept":2}\n'
    assert "1 line(s) of the access log could not be written: No space left" in caplog.text


def test_lines_are_written_in_time_and_at_the_end(capfdbinary):
    access_log = AccessLog()

    async def play():
        writing = asyncio.create_task(access_log.keep_writing(0.01))
        access_log.append({"first": 1})
        assert capfdbinary.readouterr().out == b""  # not a write of its own for each line
        await asyncio.sleep(0.1)
        first = capfdbinary.readouterr().out
        access_log.append({"second": 2})
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        return first

    assert asyncio.run(play()) == b'{"first":1}\n'
    assert capfdbinary.readouterr().out == b'{"second":2}\n'
