/** The data of the built-in recipes, and where they can be had, for whoever starts one without them. */

const LLAVA_PRETRAIN =
  'https://huggingface.co/datasets/liuhaotian/LLaVA-Pretrain, with images.zip unpacked into images/';

const LLAVA_INSTRUCT =
  'https://huggingface.co/datasets/liuhaotian/LLaVA-Instruct-150K; its pictures are COCO train2017, GQA, OCR-VQA, TextVQA and Visual Genome in the folders that the records name (coco/, gqa/, ocr_vqa/, textvqa/, vg/)';

export const SHAREGPT4V_PT =
  'https://huggingface.co/datasets/Lin-Chen/ShareGPT4V; its pictures are COCO, LLaVA-Pretrain and SAM in the folders that the records name';

export const INTERNVL_SFT =
  'https://huggingface.co/datasets/OpenGVLab/InternVL-Chat-V1-2-SFT-Data, with its pictures in data/';

export const QUICKSTART = 'run `patina quickstart`, which draws it and trains the first stage';

const LLAVA_DATA = './data/llava_data';

/** 558K pictures with captions. */
export const PRETRAIN_SOURCE = {
  path: `${LLAVA_DATA}/LLaVA-Pretrain/blip_laion_cc_sbu_558k.json`,
  images: `${LLAVA_DATA}/LLaVA-Pretrain/images`,
  origin: LLAVA_PRETRAIN,
};

/** 665K conversations. */
export const INSTRUCT_SOURCE = {
  path: `${LLAVA_DATA}/LLaVA-Instruct-150K/llava_v1_5_mix665k.json`,
  images: `${LLAVA_DATA}/llava_images`,
  origin: LLAVA_INSTRUCT,
};
