"""What setup.cfg cannot say: on PyPI the README's links lead to the repository, and its picture is shown from there."""
import re
from pathlib import Path

from setuptools import setup

REPOSITORY = 'https://github.com/celery-qos/celery-qos'

text = (Path(__file__).parent / 'README.md').read_text(encoding='utf-8')
text = re.sub(r'(!\[[^\]]*\]\()(?!https?:)', rf'\1{REPOSITORY}/raw/main/', text)
text = re.sub(r'(\]\()(?!https?:|#)', rf'\1{REPOSITORY}/blob/main/', text)
setup(long_description=text, long_description_content_type='text/markdown')
