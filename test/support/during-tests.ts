import { after, before } from "node:test";

/** Starts something before the tests of a suite or file, which use it as if it were there already, and ends it after them. */
export function duringTests<T extends AsyncDisposable>(
  start: () => Promise<T>,
  options: { readonly timeout?: number } = {},
): T {
  let started: T | undefined;
  before(async () => {
    started = await start();
  }, options);
  after(() => started?.[Symbol.asyncDispose]());
  return new Proxy({} as T, {
    get: (_, key) => {
      if (started === undefined) {
        throw new Error("it is there once a test runs");
      }
      const value: unknown = Reflect.get(started, key, started);
      // Private members are those of the object itself.
      return typeof value === "function" ? value.bind(started) : value;
    },
  });
}
