from tests import typechecking as typechecking
