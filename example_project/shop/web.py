"""The shop's web side, on the standard library's WSGI server: `python -m shop.web --port 8000`.

    POST /accounts/<account>/sync    queue a task for the account
    PUT  /accounts/<account>/plan    change its plan, named in the body; acts on tasks that wait already
    GET  /tasks/<id>                 what became of the task
"""
import argparse
import json
import re
from wsgiref.simple_server import make_server

import celery_qos

from .celery import app
from .plans import ACCOUNTS, PLANS
from .tasks import sync


def post_sync(account, body):
    if account not in ACCOUNTS:
        return '404 Not Found', {'error': f'no account {account!r}'}
    task = sync.delay(account)
    return '202 Accepted', {'task': task.id, 'url': f'/tasks/{task.id}'}


def put_plan(account, body):
    if account not in ACCOUNTS:
        return '404 Not Found', {'error': f'no account {account!r}'}
    if body not in PLANS:
        return '400 Bad Request', {'error': f'no plan {body!r}; one of {", ".join(PLANS)}'}
    celery_qos.control(app).set_tenant(account, weight=PLANS[body])
    return '200 OK', {'account': account, 'plan': body}


def get_task(task_id, body):
    task = app.AsyncResult(task_id)
    return '200 OK', {'state': task.state, 'result': task.result if task.successful() else None}


ROUTES = {
    ('POST', r'/accounts/([\w-]+)/sync'): post_sync,
    ('PUT', r'/accounts/([\w-]+)/plan'): put_plan,
    ('GET', r'/tasks/([\w-]+)'): get_task,
}


def application(environ, start_response):
    """The WSGI application: any WSGI server runs ``shop.web:application``."""
    body = environ['wsgi.input'].read(int(environ.get('CONTENT_LENGTH') or 0)).decode()
    status, answer = '404 Not Found', {'error': 'no such page'}
    for (method, path), view in ROUTES.items():
        found = re.fullmatch(path, environ['PATH_INFO'])
        if found and method == environ['REQUEST_METHOD']:
            status, answer = view(found[1], body)
    start_response(status, [('Content-Type', 'application/json')])
    return [json.dumps(answer).encode() + b'\n']


def main():
    parser = argparse.ArgumentParser(description='Serve the shop.')
    parser.add_argument('--port', type=int, default=8000, help='0 takes a free one (default: %(default)s)')
    with make_server('127.0.0.1', parser.parse_args().port, application) as server:
        print(f'listening on http://127.0.0.1:{server.server_port}', flush=True)
        server.serve_forever()


if __name__ == '__main__':
    main()
