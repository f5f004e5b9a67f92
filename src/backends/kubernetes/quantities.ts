const quantity = /^(\d+(?:\.\d+)?)(m|Ki|Mi|Gi|Ti|k|M|G|T)?$/;
const units: Readonly<Record<string, number>> = {
  m: 1 / 1000,
  ...{ Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30, Ti: 2 ** 40, k: 1e3, M: 1e6, G: 1e9, T: 1e12 },
};

/** The number that a quantity of Kubernetes' is: `1900m`, `16Gi`; 0: it is none. */
export function numberIn(text: string): number {
  const [, digits = "0", unit = ""] = quantity.exec(text) ?? [];
  return Number(digits) * (units[unit] ?? 1);
}
