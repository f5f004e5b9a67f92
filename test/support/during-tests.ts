import assert from "node:assert/strict";
import { after, before } from "node:test";

/**
 * Starts something before the tests of a suite or file, which use it as if it were there already, and ends it after them.
 * Several end in the order in which they began, and none after one that fails to: what belongs together is one `start`.
 * Hooks of a file begin at once: there, one that uses it has to be part of `start`. Its objects may be taken out of it before
 * they are there; its texts, numbers and functions may not.
 *
 * @param start what it gives to the resources is ended too
 */
export function duringTests<T extends object>(
  start: (resources: AsyncDisposableStack) => Promise<T>,
  options: { readonly timeout?: number } = {},
): T {
  const resources = new AsyncDisposableStack();
  let started: T | undefined;
  before(async () => {
    started = await start(resources);
    if (Symbol.asyncDispose in started) {
      resources.use(started as AsyncDisposable);
    }
  }, options);
  after(() => resources.disposeAsync());
  const whole = () => started ?? assert.fail("it is not started yet: only tests and later hooks may use it");
  return new Proxy({} as T, {
    get: (_, key) => {
      const part = () => memberOf(whole(), key);
      return started === undefined
        ? new Proxy({}, { get: (__, inner) => memberOf(part() as object, inner) })
        : part();
    },
  });
}

function memberOf(own: object, key: PropertyKey): unknown {
  const value: unknown = Reflect.get(own, key, own);
  // Private members are those of the object itself.
  return typeof value === "function" ? value.bind(own) : value;
}
