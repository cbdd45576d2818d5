/** Names in the order in which people count: `layers.2` before `layers.10`. */

/** Compares two names for `sort`: numbers in them by value, the rest by UTF-16 code units. Equal only if identical. */
export function naturalOrder(a: string, b: string): number {
  const partsA = a.split(/(\d+)/);
  const partsB = b.split(/(\d+)/);
  for (let index = 0; index < Math.min(partsA.length, partsB.length); index++) {
    const partA = partsA[index]!;
    const partB = partsB[index]!;
    if (partA === partB) continue;
    // Odd parts are the numbers. Without leading zeros the longer one is the larger one.
    const [numberA, numberB] = [partA, partB].map((part) => part.replace(/^0+/, ''));
    const isNumber = index % 2 === 1;
    if (isNumber && numberA!.length !== numberB!.length) return numberA!.length - numberB!.length;
    if (isNumber && numberA !== numberB) return numberA! < numberB! ? -1 : 1;
    return partA < partB ? -1 : 1;
  }
  return partsA.length - partsB.length;
}
