import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

import { describeHub, hubSettings } from './settings.js';

let home: string;
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'patina-home-'));
});
afterEach(() => rmSync(home, { recursive: true }));

describe('the cache folder', () => {
  test.each([
    [{}, '$HOME/.cache/huggingface/hub'],
    [{ XDG_CACHE_HOME: '/xdg' }, '/xdg/huggingface/hub'],
    [{ HF_HOME: '/hf', XDG_CACHE_HOME: '/xdg' }, '/hf/hub'],
    [{ HF_HOME: '~/hf' }, '$HOME/hf/hub'],
    [{ HF_HOME: '/hf', HUGGINGFACE_HUB_CACHE: '/old' }, '/old'],
    [
      { HF_HUB_CACHE: '${DISK}/$NAME/x', DISK: '/d', NAME: 'n', HUGGINGFACE_HUB_CACHE: '/o' },
      '/d/n/x',
    ],
    [{ HF_HUB_CACHE: '', HF_HOME: '/hf' }, '/hf/hub'],
  ])('with %j is %s', (env, folder) => {
    expect(hubSettings({ HOME: home, ...env }).cacheFolder).toBe(folder.replace('$HOME', home));
  });
});

describe('the token', () => {
  const token = (env: Record<string, string> = {}) =>
    hubSettings({ HOME: home, HF_HOME: home, ...env }).token;

  test('comes from the variables, then from the active login', () => {
    expect(token()).toBeUndefined();
    writeFileSync(join(home, 'token'), ' hf_file\n');
    expect(token()).toEqual({ value: 'hf_file', source: join(home, 'token') });
    expect(token({ HUGGING_FACE_HUB_TOKEN: 'old' })?.value).toBe('old');
    expect(token({ HUGGING_FACE_HUB_TOKEN: 'old', HF_TOKEN: 'new' })).toEqual({
      value: 'new',
      source: 'HF_TOKEN',
    });
    expect(token({ HF_TOKEN: '  ' })?.value).toBe('hf_file');
    expect(token({ HF_HUB_DISABLE_IMPLICIT_TOKEN: '1' })).toBeUndefined();
  });

  test('comes from HF_TOKEN_PATH where Python was told to keep it', () => {
    mkdirSync(join(home, 'secrets'));
    writeFileSync(join(home, 'secrets/mine'), 'hf_mine');
    expect(token({ HF_TOKEN_PATH: '~/secrets/mine' })?.value).toBe('hf_mine');
  });

  test('comes from stored_tokens when there is exactly one', () => {
    const stored = join(home, 'stored_tokens');
    writeFileSync(stored, '[work]\nhf_token = hf_one\nexpires_at = 5\n');
    expect(token()).toEqual({ value: 'hf_one', source: stored });
    writeFileSync(stored, '[work]\nhf_token = hf_one\n\n[home]\nhf_token: hf_two\n');
    expect(token()).toBeUndefined();
  });
});

test('offline, endpoint and time limit', () => {
  const env = { HOME: home };
  expect(hubSettings(env)).toMatchObject({
    offline: false,
    endpoint: 'https://huggingface.co',
    stallLimit: 10_000,
    copies: false,
  });
  expect(hubSettings({ ...env, HF_HUB_OFFLINE: 'yes' }).offline).toBe(true);
  expect(hubSettings({ ...env, HF_HUB_OFFLINE: '0' }).offline).toBe(false);
  expect(hubSettings({ ...env, TRANSFORMERS_OFFLINE: '1' }).offline).toBe(true);
  expect(hubSettings({ ...env, HF_ENDPOINT: 'http://mirror:8080/' }).endpoint).toBe(
    'http://mirror:8080',
  );
  expect(hubSettings({ ...env, HF_HUB_DOWNLOAD_TIMEOUT: '30' }).stallLimit).toBe(30_000);
  expect(hubSettings({ ...env, HF_HUB_DOWNLOAD_TIMEOUT: 'x' }).stallLimit).toBe(10_000);
  expect(() => hubSettings({ ...env, HF_ENDPOINT: 'ftp://x' })).toThrow(
    expect.objectContaining({ code: 'E_HUB_ENDPOINT' }),
  );
});

test('describeHub tells where things are and no secret', () => {
  const facts = describeHub({ HOME: home, HF_HOME: home, HF_TOKEN: 'hf_secret' });
  expect(facts).toEqual({
    endpoint: 'https://huggingface.co',
    cacheFolder: join(home, 'hub'),
    cacheExists: false,
    offline: false,
    tokenSource: 'HF_TOKEN',
  });
});
