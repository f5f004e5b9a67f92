import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { once } from "node:events";
import { describe, it } from "node:test";

import { Code, ConnectError } from "@connectrpc/connect";

import { toConnectError } from "./connect-error.ts";
import {
  conflict,
  errorKindHeader,
  errorKinds,
  fromFileError,
  fromUnknown,
  notFound,
  SockerlessError,
  systemError,
  toErrorData,
} from "./errors.ts";

describe("errors", () => {
  it("carries every kind to a peer and back", () => {
    for (const kind of errorKinds) {
      const sent = toConnectError(new SockerlessError(kind, `a ${kind} message`));
      const received = new ConnectError(sent.rawMessage, sent.code, sent.metadata);
      const back = fromUnknown(received);
      assert.equal(back.kind, kind);
      assert.equal(back.message, `a ${kind} message`);
    }
  });

  it("gives every kind a distinct code, for clients without our header", () => {
    const codes = errorKinds.map((kind) => toConnectError(new SockerlessError(kind, "m")).code);
    assert.equal(new Set(codes).size, errorKinds.length);
  });

  it("understands a peer that sends no header by its code", () => {
    assert.equal(fromUnknown(new ConnectError("gone", Code.NotFound)).kind, "not-found");
    assert.equal(fromUnknown(new ConnectError("busy", Code.FailedPrecondition)).kind, "conflict");
    assert.equal(fromUnknown(new ConnectError("left", Code.Canceled)).kind, "system");
    assert.equal(fromUnknown(new ConnectError("lost", Code.DataLoss)).kind, "system");
  });

  it("does not believe a header that names no kind", () => {
    const error = new ConnectError("m", Code.NotFound, { [errorKindHeader]: "whatever" });
    assert.equal(fromUnknown(error).kind, "not-found");
  });

  it("drops Connect's code prefix from the message", () => {
    assert.equal(
      fromUnknown(new ConnectError("No such image: x", Code.NotFound)).message,
      "No such image: x",
    );
  });

  it("keeps the original error as the cause, also on the way out", () => {
    const cause = new Error("the root of it");
    assert.equal(fromUnknown(cause).cause, cause);
    assert.equal(toConnectError(cause).cause, cause);
    assert.equal(systemError("m", cause).cause, cause);
  });

  it("passes its own errors through unchanged", () => {
    const error = conflict("in use");
    assert.equal(fromUnknown(error), error);
  });

  it("sees a refused connection as unavailable", async () => {
    const server = createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    const address = server.address();
    assert.ok(address !== null && typeof address === "object");
    server.close();
    await once(server, "close");
    const socket = connect(address.port, "127.0.0.1");
    const [error] = await once(socket, "error").catch((caught: unknown) => [caught]);
    assert.equal(fromUnknown(error).kind, "unavailable");
  });

  it("does not turn a missing file of ours into a not-found for the user", async () => {
    const error = await readFile("/nonexistent/state").catch((caught: unknown) => caught);
    assert.equal(fromUnknown(error).kind, "system");
  });

  it("describes the failure of a user's path in the given words", async () => {
    const error = await readFile("/nonexistent/file").catch((caught: unknown) => caught);
    const converted = fromFileError(error, "Could not find the file /file in container c");
    assert.equal(converted.kind, "not-found");
    assert.equal(converted.message, "Could not find the file /file in container c");
    assert.equal(converted.cause, error);
  });

  it("crosses threads as data", () => {
    const data = structuredClone(toErrorData(notFound("No such container: x")));
    assert.deepEqual(data, { kind: "not-found", message: "No such container: x" });
    assert.deepEqual(data, { kind: "not-found", message: "No such container: x" });
  });

  it("makes a system error of anything that is thrown", () => {
    assert.equal(fromUnknown("just a string").message, "just a string");
    assert.equal(fromUnknown(undefined).kind, "system");
  });
});
