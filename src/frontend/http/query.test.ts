import assert from "node:assert/strict";
import { test } from "node:test";

import { flag, flagOr, integer, terminalSize } from "./query.ts";

test("a switch is off for the words that dockerd takes for no, and on for any other", () => {
  for (const value of ["", "0", "no", "false", "none", "FALSE", " 0 "]) {
    assert.equal(flag(new URLSearchParams({ a: value }), "a"), false, value);
  }
  for (const value of ["1", "true", "yes", "on", "2"]) {
    assert.equal(flag(new URLSearchParams({ a: value }), "a"), true, value);
  }
  assert.equal(flag(new URLSearchParams(), "a"), false);
});

test("a default counts only where the query does not name the switch", () => {
  assert.equal(flagOr(new URLSearchParams(), "a", true), true);
  assert.equal(flagOr(new URLSearchParams("a="), "a", true), false);
});

test("a number is whole and of 64 bits, or refused", () => {
  assert.equal(integer(new URLSearchParams("t=-1"), "t"), -1);
  assert.equal(integer(new URLSearchParams("t="), "t"), undefined);
  assert.equal(integer(new URLSearchParams("t=99999999999"), "t"), 0x7fff_ffff);
  assert.equal(integer(new URLSearchParams("t=-99999999999"), "t"), -0x8000_0000);
  for (const value of ["ten", "1.5", "0x10", "1e3", "99999999999999999999"]) {
    assert.throws(() => integer(new URLSearchParams({ t: value }), "t"), { kind: "invalid" }, value);
  }
});

test("a terminal has no size that is missing, negative or absurd", () => {
  assert.equal(terminalSize(new URLSearchParams("h=24"), "h", "height"), 24);
  assert.throws(() => terminalSize(new URLSearchParams(), "h", "height"), {
    message: 'invalid resize height "": invalid syntax',
  });
  assert.throws(() => terminalSize(new URLSearchParams("h=-1"), "h", "height"), {
    message: 'invalid resize height "-1": value out of range',
  });
  assert.throws(() => terminalSize(new URLSearchParams("h=4294967296"), "h", "height"), {
    message: 'invalid resize height "4294967296": value out of range',
  });
});
