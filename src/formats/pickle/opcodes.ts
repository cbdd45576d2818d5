/**
 * The opcodes of Python's pickle, protocols 0 to 5 (`Lib/pickle.py`, PEP 3154, PEP 574), as operations of the machine.
 * Absent on purpose: EXT1, EXT2, EXT4 (the process-wide registry), NEXT_BUFFER and READONLY_BUFFER (out-of-band data),
 * PERSID (text ids).
 */
import type { Machine } from './machine.js';
import { describe, type Item } from './tokens.js';
import {
  decodeLong,
  decodeQuoted,
  decodeRawUnicode,
  decodeText,
  latin1,
  parseFloatText,
  parseInteger,
} from './text.js';

const HIGHEST_PROTOCOL = 5;
/** Bytes of an integer: far more than any counter, few enough to be written out in decimal. */
const MAX_LONG = 65_536;
const SMALL = Array.from({ length: 256 }, (_, value) => BigInt(value));

/** What an opcode does to the machine. */
export type Operation = (machine: Machine) => void;

function text(machine: Machine, bytes: Uint8Array): string {
  machine.charge(bytes.length);
  return decodeText(bytes) ?? machine.fault('text is not UTF-8');
}

function bytes(machine: Machine, length: number | bigint): Uint8Array {
  const taken = machine.stream.take(length);
  machine.charge(taken.length);
  return new Uint8Array(taken);
}

function long(machine: Machine, length: number): bigint {
  if (length > MAX_LONG) machine.fault(`an integer of ${length} bytes`);
  return decodeLong(machine.stream.take(length));
}

function decimal(machine: Machine, line: string): bigint {
  return parseInteger(line) ?? machine.fault('an integer is not written in digits');
}

function slot(machine: Machine): number {
  const index = decimal(machine, latin1(machine.stream.line()));
  return index >= 0n && index < 2n ** 32n
    ? Number(index)
    : machine.fault('a memo slot is no index');
}

function float(machine: Machine): void {
  const value = parseFloatText(latin1(machine.stream.line()));
  machine.push(value ?? machine.fault('a float is no number'));
}

function quotedText(machine: Machine): void {
  const quoted = decodeQuoted(machine.stream.line());
  machine.push(text(machine, quoted ?? machine.fault('a string is not quoted')));
}

function escapedText(machine: Machine): void {
  const line = machine.stream.line();
  machine.charge(line.length);
  machine.push(decodeRawUnicode(line) ?? machine.fault('text is malformed'));
}

function integer(machine: Machine): void {
  const line = latin1(machine.stream.line());
  // How protocols 0 and 1 write booleans.
  if (line === '01' || line === '00') machine.push(line === '01');
  else machine.push(decimal(machine, line));
}

function global(machine: Machine): Item {
  const module = text(machine, machine.stream.line());
  return machine.find(module, text(machine, machine.stream.line()));
}

function stackGlobal(machine: Machine): void {
  const name = machine.pop();
  const module = machine.pop();
  if (typeof name !== 'string' || typeof module !== 'string') {
    machine.fault(`a class is named by ${describe(module)} and ${describe(name)}`);
  }
  machine.push(machine.find(module, name));
}

function protocol(machine: Machine): void {
  const version = machine.stream.u8();
  if (version > HIGHEST_PROTOCOL) machine.fault(`protocol ${version} does not exist`);
}

function frame(machine: Machine): void {
  const length = machine.stream.u64();
  if (length > machine.stream.remaining) machine.fault('a frame reaches beyond the end');
}

function tuple(machine: Machine, count: number): void {
  const items = new Array<Item>(count);
  for (let index = count - 1; index >= 0; index--) items[index] = machine.pop();
  machine.pushTuple(items);
}

function dictionary(machine: Machine): void {
  const items = machine.popMark();
  machine.pushNew(new Map());
  machine.setItems(items);
}

function list(machine: Machine): void {
  const items = machine.popMark();
  machine.pushNew([]);
  machine.append(items);
}

function frozenSet(machine: Machine): void {
  const items = machine.popMark();
  machine.pushNew(new Set());
  machine.addItems(items);
}

function reduce(machine: Machine): void {
  const args = machine.pop();
  machine.call(machine.pop(), args);
}

function newWithKeywords(machine: Machine): void {
  const keywords = machine.pop();
  if (!(keywords instanceof Map && keywords.size === 0)) machine.fault('a class gets keywords');
  reduce(machine);
}

/** INST and OBJ: the class from the stream or from below the arguments. */
function instantiate(machine: Machine, inline: boolean): void {
  const callee = inline ? global(machine) : undefined;
  const items = machine.popMark();
  const type = callee ?? items.shift() ?? machine.fault('a class is missing');
  machine.pushTuple(items);
  machine.call(type, machine.pop());
}

function setItem(machine: Machine): void {
  const value = machine.pop();
  machine.setItems([machine.pop(), value]);
}

function duplicate(machine: Machine): void {
  machine.push(machine.top());
}

/** One operation per opcode; STOP is the runner's. */
export const OPERATIONS: ReadonlyMap<number, Operation> = new Map<number, Operation>([
  // Stack and memo.
  [0x28, (m) => m.mark()], // (  MARK
  [0x30, (m) => m.discard()], // 0  POP
  [0x31, (m) => void m.popMark()], // 1  POP_MARK
  [0x32, duplicate], // 2  DUP
  [0x67, (m) => m.recall(slot(m))], // g  GET
  [0x68, (m) => m.recall(m.stream.u8())], // h  BINGET
  [0x6a, (m) => m.recall(m.stream.u32())], // j  LONG_BINGET
  [0x70, (m) => m.memoize(slot(m))], // p  PUT
  [0x71, (m) => m.memoize(m.stream.u8())], // q  BINPUT
  [0x72, (m) => m.memoize(m.stream.u32())], // r  LONG_BINPUT
  [0x94, (m) => m.memoize()], // MEMOIZE
  // Atoms.
  [0x4e, (m) => m.push(null)], // N  NONE
  [0x88, (m) => m.push(true)], // NEWTRUE
  [0x89, (m) => m.push(false)], // NEWFALSE
  [0x49, integer], // I  INT
  [0x4a, (m) => m.push(BigInt(m.stream.i32()))], // J  BININT
  [0x4b, (m) => m.push(SMALL[m.stream.u8()]!)], // K  BININT1
  [0x4d, (m) => m.push(BigInt(m.stream.u16()))], // M  BININT2
  [0x4c, (m) => m.push(decimal(m, latin1(m.stream.line()).replace(/L$/, '')))], // L  LONG
  [0x8a, (m) => m.push(long(m, m.stream.u8()))], // LONG1
  [0x8b, (m) => m.push(long(m, m.stream.i32()))], // LONG4
  [0x46, float], // F  FLOAT
  [0x47, (m) => m.push(m.stream.f64())], // G  BINFLOAT
  // Text and bytes.
  [0x53, quotedText], // S  STRING
  [0x54, (m) => m.push(text(m, m.stream.take(m.stream.i32())))], // T  BINSTRING
  [0x55, (m) => m.push(text(m, m.stream.take(m.stream.u8())))], // U  SHORT_BINSTRING
  [0x56, escapedText], // V  UNICODE
  [0x58, (m) => m.push(text(m, m.stream.take(m.stream.u32())))], // X  BINUNICODE
  [0x8c, (m) => m.push(text(m, m.stream.take(m.stream.u8())))], // SHORT_BINUNICODE
  [0x8d, (m) => m.push(text(m, m.stream.take(m.stream.u64())))], // BINUNICODE8
  [0x42, (m) => m.push(bytes(m, m.stream.u32()))], // B  BINBYTES
  [0x43, (m) => m.push(bytes(m, m.stream.u8()))], // C  SHORT_BINBYTES
  [0x8e, (m) => m.push(bytes(m, m.stream.u64()))], // BINBYTES8
  [0x96, (m) => m.push(bytes(m, m.stream.u64()))], // BYTEARRAY8
  // Containers.
  [0x29, (m) => m.pushTuple([])], // )  EMPTY_TUPLE
  [0x74, (m) => m.pushTuple(m.popMark())], // t  TUPLE
  [0x85, (m) => tuple(m, 1)], // TUPLE1
  [0x86, (m) => tuple(m, 2)], // TUPLE2
  [0x87, (m) => tuple(m, 3)], // TUPLE3
  [0x5d, (m) => m.pushNew([])], // ]  EMPTY_LIST
  [0x6c, list], // l  LIST
  [0x61, (m) => m.append([m.pop()])], // a  APPEND
  [0x65, (m) => m.append(m.popMark())], // e  APPENDS
  [0x7d, (m) => m.pushNew(new Map())], // }  EMPTY_DICT
  [0x64, dictionary], // d  DICT
  [0x73, setItem], // s  SETITEM
  [0x75, (m) => m.setItems(m.popMark())], // u  SETITEMS
  [0x8f, (m) => m.pushNew(new Set())], // EMPTY_SET
  [0x90, (m) => m.addItems(m.popMark())], // ADDITEMS
  [0x91, frozenSet], // FROZENSET
  // Classes and calls.
  [0x63, (m) => m.push(global(m))], // c  GLOBAL
  [0x93, stackGlobal], // STACK_GLOBAL
  [0x52, reduce], // R  REDUCE
  [0x81, reduce], // NEWOBJ
  [0x92, newWithKeywords], // NEWOBJ_EX
  [0x69, (m) => instantiate(m, true)], // i  INST
  [0x6f, (m) => instantiate(m, false)], // o  OBJ
  [0x62, (m) => m.build()], // b  BUILD
  [0x51, (m) => m.loadPersistent()], // Q  BINPERSID
  // Framing.
  [0x80, protocol], // PROTO
  [0x95, frame], // FRAME
]);
