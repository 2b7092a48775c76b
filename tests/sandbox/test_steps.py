import ast

import pytest

from bayesflow_sandbox.steps import StepHeader, call_method, step_at, step_headers

SOURCE = '''\
# Step 9: above the class
class Workflow:
    async def __call__(self, problem):
        """
        # Step 8: in the docstring
        """
        #Step 1: Ask
        x = [
            1,  # Step 7: in a list
        ]
        # STEP 2a - check it
        for i in x:
            # Step 6: in a block
            pass
            # Step 5: at the end of a block
        y = """
        # Step 4: in a string
        """
        ## step 3
        return y
    # Step 10: behind
'''


def headers_of(source: str) -> list[StepHeader]:
    call = call_method(ast.parse(source))
    assert call is not None
    return list(step_headers(source, call))


def test_headers_are_comments_at_the_top_level_of_the_body() -> None:
    assert headers_of(SOURCE) == [(7, "1", "Ask"), (11, "2a", "check it"), (19, "3", "")]


@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_foreign_line_ends_count_as_lines(end: str) -> None:
    assert headers_of(SOURCE.replace("\n", end)) == headers_of(SOURCE)


def test_a_line_belongs_to_the_last_header_before_it() -> None:
    call = call_method(ast.parse(SOURCE))
    assert call is not None
    headers = step_headers(SOURCE, call)
    said = [step_at(line, headers) for line in (4, 7, 10, 13, 20)]
    assert said == [None, "Step 1: Ask", "Step 1: Ask", "Step 2a: check it", "Step 3"]
