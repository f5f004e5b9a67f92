"""Prints one line of JSON for each test in the shape of `go tool test2json`: a test is a task whose name has a `/`."""

import json

from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "results"

    def __init__(self):
        super().__init__()
        self.name = ""

    def event(self, action, **more):
        if "/" in self.name:
            print(json.dumps({"Action": action, "Test": self.name, **more}), flush=True)

    def v2_playbook_on_task_start(self, task, is_conditional):
        self.name = task.get_name()
        self.event("run")

    def v2_runner_on_ok(self, result):
        self.event("pass")

    def v2_runner_on_failed(self, result, ignore_errors=False):
        told = result._result
        differences = told.get("diff") or told.get("differences") or ""
        text = f"{told.get('msg', '')} {differences} {told.get('stderr', '')}".strip()
        self.event("output", Output=f"{text or json.dumps(told)}\n")
        self.event("fail")
