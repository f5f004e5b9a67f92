import assert from "node:assert/strict";
import { after, before } from "node:test";

/**
 * Starts something before the tests of a suite or file, which use it as if it were there already, and ends it after them.
 * Several end in the order in which they began, and none after one that fails to: what belongs together is one `start`.
 * Hooks of a file begin at once: there, one that uses it has to be part of `start`.
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
  return thereLater(
    () => started ?? assert.fail("it is not started yet: only tests and later hooks may use it"),
  );
}

/** An object that others may hold before it is there. */
export function thereLater<T extends object>(get: () => T): T {
  return new Proxy({} as T, {
    get: (_, key) => {
      const own = get();
      const value: unknown = Reflect.get(own, key, own);
      // Private members are those of the object itself.
      return typeof value === "function" ? value.bind(own) : value;
    },
  });
}
