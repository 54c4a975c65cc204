"""Small hooks for other people's packages, none of which celery-qos needs: import the one you use."""
