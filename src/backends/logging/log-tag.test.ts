import assert from "node:assert/strict";
import { test } from "node:test";

import { renderLogTag } from "./log-tag.ts";

const fields = { ID: "0123456789ab", Name: "web", ImageName: "shop/web:1", ContainerArgs: ["a", "b"] };

test("a tag renders a container's properties, with Docker's functions", () => {
  for (const [template, text] of [
    ["", ""],
    ["plain", "plain"],
    ["{{.ImageName}}/{{.Name}}/{{ .ID }}", "shop/web:1/web/0123456789ab"],
    ["{{upper .Name}}", "WEB"],
    ["{{.Name | upper | lower}}", "web"],
    ["{{truncate .ID 4}}", "0123"],
    ['{{pad .Name 1 2}}{{"}}"}}', " web  }}"],
    ['{{join .ContainerArgs ","}}', "a,b"],
    ['{{join (split) ","}}', undefined],
    ["{{json .Name}}{{/* nothing */}}", '"web"'],
    ["a {{- .Name -}} b", "awebb"],
    ["{{.ContainerArgs}}", "[a b]"],
  ] as const) {
    if (text === undefined) {
      assert.throws(() => renderLogTag(template, fields), /is not supported in a log tag$/);
    } else {
      assert.equal(renderLogTag(template, fields), text, template);
    }
  }
});

test("an invalid template is refused in Go's words", () => {
  for (const [template, message] of [
    ["{{.Name", "template: log-tag:1: unclosed action"],
    ["{{}}", "template: log-tag:1: missing value for command"],
    ["{{foo}}", 'template: log-tag:1: function "foo" not defined'],
    ["{{constructor}}", 'template: log-tag:1: function "constructor" not defined'],
    [
      "{{.Nonsense}}",
      'template: log-tag:1:2: executing "log-tag" at <.Nonsense>: can\'t evaluate field Nonsense in type *logger.Info',
    ],
    ["{{if .Name}}x{{end}}", 'template: log-tag:1: "if" is not supported in a log tag'],
  ] as const) {
    assert.throws(() => renderLogTag(template, fields), { message });
  }
});

test("neither a template nor a value of it is long: it would be written with every line", () => {
  const env = { ...fields, ContainerEnv: ["x".repeat(40_000), "y".repeat(40_000)] };
  for (const [template, message] of [
    ["x".repeat(5_000), /more than 4096 characters/],
    [`{{.Name${" | upper".repeat(200_000)}}}`, /more than 4096 characters/],
    [`{{.Name${" | json".repeat(500)}}}`, /a value has more than 65536 characters/],
    ["{{.ContainerEnv}}", /a value has more than 65536 characters/],
    ["{{pad .Name 1000 1000}}".repeat(100), /a value has more than 65536 characters/],
  ] as const) {
    assert.throws(() => renderLogTag(template, env), { message });
  }
});

test("the functions of a template read and write a bounded text together, however many they are", () => {
  const command = { ...fields, Command: "a ".repeat(32_000), ContainerArgs: Array<string>(60_000).fill("") };
  for (const template of [
    `{{.Command${"|title".repeat(600)}|len}}`,
    "{{title .Command|len}}".repeat(170),
    "{{len .Command}}".repeat(250),
    '{{join .ContainerArgs ","|len}}'.repeat(120),
  ]) {
    assert.throws(() => renderLogTag(template, command), { message: /read and write more than 262144/ });
  }
  assert.equal(renderLogTag("{{.Command | title | len}}", command), "64000");
});
