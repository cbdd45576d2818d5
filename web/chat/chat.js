/** A conversation with a served model, with pictures by drag and drop. The key comes in the address after `#key=`. */

const at = (id) => document.getElementById(id);
const [talk, ask, question, shown, fault, send] = [
  'talk',
  'ask',
  'question',
  'shown',
  'fault',
  'send',
].map(at);

/** As the server takes them. */
let messages = [];
/** Data URLs for the next question. */
let pictures = [];
let key = new URLSearchParams(location.hash.slice(1)).get('key') ?? '';
/** Stops the answer that is being written. */
let stop;

const headers = () => ({ authorization: `Bearer ${key}`, 'content-type': 'application/json' });

async function call(path, options = {}) {
  const response = await fetch(path, { ...options, headers: headers() });
  if (response.ok) return response;
  const { error } = await response
    .json()
    .catch(() => ({ error: { message: response.statusText } }));
  if (response.status === 401) at('door').hidden = false;
  throw new Error(error.message);
}

async function enter() {
  const { data } = await (await call('v1/models')).json();
  at('door').hidden = true;
  at('model').replaceChildren(...data.map(({ id }) => new Option(id, id)));
  question.focus();
}

function turn(role, images = []) {
  const article = document.createElement('article');
  article.className = role;
  article.append(...images.map(picture));
  const text = article.appendChild(document.createElement('span'));
  talk.append(article);
  return text;
}

function picture(url) {
  const image = new Image();
  image.src = url;
  image.alt = 'A picture of the question';
  return image;
}

function preview() {
  shown.replaceChildren(
    ...pictures.map((url, i) => {
      const button = document.createElement('button');
      button.type = 'button';
      button.title = 'Leave it out';
      button.append(picture(url));
      button.onclick = () => {
        pictures.splice(i, 1);
        preview();
      };
      return button;
    }),
  );
}

async function take(files) {
  for (const file of files) {
    if (!file.type.startsWith('image/')) continue;
    const reader = new FileReader();
    const read = new Promise((resolve, reject) => {
      reader.onload = () => resolve(reader.result);
      reader.onerror = () => reject(reader.error);
    });
    reader.readAsDataURL(file);
    pictures.push(await read);
  }
  preview();
}

/** The data of server-sent events, each on one line. */
async function* events(body) {
  let rest = '';
  for await (const piece of decoded(body)) {
    const lines = (rest + piece).split('\n');
    rest = lines.pop();
    for (const line of lines) if (line.startsWith('data: ')) yield line.slice(6);
  }
}

async function* decoded(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) yield part.value;
}

async function answer(text) {
  const content = pictures.map((url) => ({ type: 'image_url', image_url: { url } }));
  const before = messages;
  const asked = [...before, { role: 'user', content: [...content, { type: 'text', text }] }];
  turn('user', pictures).textContent = text;
  const out = turn('assistant');
  stop = new AbortController();
  send.textContent = 'Stop';
  try {
    const response = await call('v1/chat/completions', {
      method: 'POST',
      signal: stop.signal,
      body: JSON.stringify({
        model: at('model').value,
        messages: asked,
        stream: true,
        temperature: Number(at('temperature').value),
      }),
    });
    for await (const data of events(response.body)) {
      if (data === '[DONE]') break;
      const { error, choices } = JSON.parse(data);
      if (error !== undefined) throw new Error(error.message);
      out.textContent += choices[0]?.delta.content ?? '';
      talk.scrollTop = talk.scrollHeight;
    }
  } catch (error) {
    if (error.name !== 'AbortError') throw error;
  } finally {
    stop = undefined;
    send.textContent = 'Ask';
    if (out.textContent === '') {
      out.parentElement.previousElementSibling?.remove();
      out.parentElement.remove();
    } else if (messages === before) {
      // Nobody has forgotten it meanwhile.
      messages = [...asked, { role: 'assistant', content: out.textContent }];
      pictures = [];
      preview();
    }
  }
}

/** What goes wrong is shown. */
async function tried(work) {
  fault.textContent = '';
  try {
    await work();
  } catch (error) {
    fault.textContent = error.message;
  }
}

ask.onsubmit = (event) => {
  event.preventDefault();
  if (stop !== undefined) {
    stop.abort();
    return;
  }
  const text = question.value.trim();
  if (text === '') return;
  question.value = '';
  void tried(async () => {
    try {
      await answer(text);
    } catch (error) {
      question.value ||= text;
      throw error;
    }
  });
};
question.onkeydown = (event) => {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  ask.requestSubmit();
};
at('file').onchange = ({ target }) => {
  void tried(() => take([...target.files]));
  target.value = '';
};
document.ondragover = (event) => {
  event.preventDefault();
  ask.classList.add('over');
};
document.ondragleave = () => ask.classList.remove('over');
document.ondrop = (event) => {
  event.preventDefault();
  ask.classList.remove('over');
  void tried(() => take([...event.dataTransfer.files]));
};
question.onpaste = ({ clipboardData }) => void tried(() => take([...clipboardData.files]));
at('forget').onclick = () => {
  stop?.abort();
  [messages, pictures] = [[], []];
  talk.replaceChildren();
  preview();
};
at('door').onsubmit = (event) => {
  event.preventDefault();
  key = at('key').value;
  void tried(enter);
};
void tried(enter);
