import assert from "node:assert/strict";
import { test } from "node:test";

import type { Platform } from "../../gen/sockerless/backend/v1/config_pb.ts";
import { platformFromJson, platformFromText } from "./platforms.ts";

test("a platform is read in every way that people write it", () => {
  const cases: readonly (readonly [string, string | undefined])[] = [
    ["", undefined],
    ["linux", undefined],
    ["linux/amd64", "linux|amd64|"],
    ["linux/arm/v7", "linux|arm|v7"],
    ["arm64", "linux|arm64|"],
    ["windows", "windows||"],
    ["LINUX", undefined],
    ["macos", "darwin||"],
    ["windows(10.0.17763)", "windows||"],
    ["x86_64", "linux|x86_64|"],
    ["nintendo/64", "nintendo|64|"],
  ];
  for (const [text, expected] of cases) {
    assert.equal(told(platformFromText(text)), expected, text);
  }
  assert.equal(
    told(platformFromJson('{"os":"linux","architecture":"arm64","variant":"v8"}')),
    "linux|arm64|v8",
  );
  assert.equal(platformFromJson(""), undefined);
});

test("what is no platform is refused in Docker's words", () => {
  const osRule = '"^([A-Za-z0-9_-]+)(?:\\\\(([A-Za-z0-9_.-]*)\\\\))?$"';
  const texts: readonly (readonly [string, string])[] = [
    [
      "   ",
      `"   " is an invalid OS component of "   ": OSAndVersion specifier component must match ${osRule}`,
    ],
    ["/", `"" is an invalid OS component of "/": OSAndVersion specifier component must match ${osRule}`],
    [
      "linux/",
      '"" is an invalid component of "linux/": platform specifier component must match "^[A-Za-z0-9_.-]+$"',
    ],
    ["a/b/c/d", '"a/b/c/d": cannot parse platform specifier'],
    ["linux/*", '"linux/*": wildcards not yet supported'],
    ["nintendo64", '"nintendo64": unknown operating system or architecture'],
  ];
  for (const [text, message] of texts) {
    assert.throws(() => platformFromText(text), { message: `${message}: invalid argument` });
  }
  const cases: readonly (readonly [string, string])[] = [
    ["linux/amd64", "failed to parse platform: invalid character 'l' looking for beginning of value"],
    ['{"architecture"', "failed to parse platform: unexpected EOF"],
    [
      '{"os":1}',
      "failed to parse platform: json: cannot unmarshal number into Go struct field Platform.os of type string",
    ],
    ['{"architecture":"amd64","os":""}', "both OS and Architecture must be provided"],
    ['{"variant":"v7"}', "optional platform fields provided, but OS and Architecture are missing"],
  ];
  for (const [text, message] of cases) {
    assert.throws(() => platformFromJson(text), { message });
  }
  for (const read of [platformFromJson, platformFromText]) {
    assert.throws(() => read(`{"a":[${"1,".repeat(1_000)}1]}`), {
      message: "a platform has at most 1024 characters",
    });
  }
});

function told(platform: Platform | undefined): string | undefined {
  return platform === undefined ? undefined : `${platform.os}|${platform.architecture}|${platform.variant}`;
}
