"""celery-qos side by side with other brokers, and against its targets: python -m benchmarks"""
